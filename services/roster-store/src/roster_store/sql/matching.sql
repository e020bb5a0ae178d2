-- name: lock_accounts
SELECT pg_advisory_xact_lock(hashtextextended('roster.accounts.' || $1::uuid, 0));

-- name: list_matching_products
-- Products whose people are matched in an organization: licensed there, with accounts or in want of them.
SELECT access.product_id, coalesce(product.unmatched, 'list') AS unmatched
FROM access LEFT JOIN product ON product.id = access.product_id
WHERE access.organization_id = $1 AND access.live AND access.until > now()
  AND (product.unmatched = 'create' OR EXISTS (
      SELECT FROM account
      WHERE account.product_id = access.product_id AND account.organization_id = $1 AND account.deleted_at IS NULL))
ORDER BY access.product_id;

-- name: find_matched_organization
SELECT EXISTS (SELECT FROM matched_organization WHERE organization_id = $1);

-- name: begin_matching_organization
INSERT INTO matched_organization (organization_id) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: find_organization_of
SELECT organization_id FROM integration WHERE no = $1;

-- name: make_matching
-- What a matching is about (`match_concern`, and whoever has these addresses and ids), and what it works with.
CREATE TEMPORARY TABLE IF NOT EXISTS match_concern (
    integration_no int NOT NULL,
    sourced_id     text COLLATE "C" NOT NULL,
    PRIMARY KEY (integration_no, sourced_id)
) ON COMMIT DROP;
CREATE TEMPORARY TABLE IF NOT EXISTS match_address (address bytea PRIMARY KEY) ON COMMIT DROP;
CREATE TEMPORARY TABLE IF NOT EXISTS match_name (sourced_id text COLLATE "C" PRIMARY KEY) ON COMMIT DROP;
CREATE TEMPORARY TABLE IF NOT EXISTS match_person (
    integration_no int NOT NULL,
    sourced_id     text COLLATE "C" NOT NULL,
    address        bytea,
    fault          text,
    student        boolean NOT NULL,
    staff          boolean NOT NULL,
    guardian       boolean NOT NULL,
    seen           boolean NOT NULL, -- whether the product may see them
    judged         boolean NOT NULL, -- false for those who only count for others
    PRIMARY KEY (integration_no, sourced_id)
) ON COMMIT DROP;
CREATE TEMPORARY TABLE IF NOT EXISTS match_candidate (account_no bigint PRIMARY KEY) ON COMMIT DROP;
CREATE TEMPORARY TABLE IF NOT EXISTS match_account (
    account_no            bigint PRIMARY KEY,
    address               bytea,
    role                  text,
    integration_no        int,
    sourced_id            text COLLATE "C",
    state                 text NOT NULL, -- free, firm, loose (its person is gone), made (and not taken up yet)
    linked_integration_no int,
    linked_sourced_id     text COLLATE "C"
) ON COMMIT DROP;
CREATE TEMPORARY TABLE IF NOT EXISTS match_named ( -- whom accounts say they belong to
    account_no     bigint NOT NULL,
    integration_no int NOT NULL,
    sourced_id     text COLLATE "C" NOT NULL,
    PRIMARY KEY (account_no, integration_no, sourced_id)
) ON COMMIT DROP;
CREATE TEMPORARY TABLE IF NOT EXISTS match_verdict (
    integration_no int NOT NULL,
    sourced_id     text COLLATE "C" NOT NULL,
    account_no     bigint,
    how            text,
    reason         text,
    candidates     bigint[] NOT NULL,
    made           boolean NOT NULL, -- whether an account that was made for them is theirs so far
    PRIMARY KEY (integration_no, sourced_id)
) ON COMMIT DROP;

-- name: clear_matching
TRUNCATE match_person, match_candidate, match_account, match_named, match_verdict;

-- name: clear_concern
TRUNCATE match_concern, match_address, match_name;

-- name: analyze_concern
ANALYZE match_concern, match_address, match_name;

-- name: analyze_people
ANALYZE match_person;

-- name: analyze_candidates
ANALYZE match_candidate;

-- name: analyze_accounts
ANALYZE match_account;

-- name: analyze_named
ANALYZE match_named;

-- name: analyze_verdicts
ANALYZE match_verdict;

-- name: concern_changed
-- People whom a step changed, or moved between schools.
INSERT INTO match_concern (integration_no, sourced_id)
SELECT integration_no, sourced_id FROM users WHERE changed_by = $2 AND integration_no = $1
UNION
SELECT integration_no, sourced_id FROM belonging
WHERE changed_by = $2 AND integration_no = $1 AND collection = 'users'
ON CONFLICT DO NOTHING;

-- name: concern_people
INSERT INTO match_concern (integration_no, sourced_id)
SELECT $1, sourced_id FROM unnest($2::text[]) AS named (sourced_id)
ON CONFLICT DO NOTHING;

-- name: concern_taken
-- Who was somebody of another integration until now.
INSERT INTO match_concern (integration_no, sourced_id)
SELECT integration_no, sourced_id FROM {taken} WHERE collection = 'users'
ON CONFLICT DO NOTHING;

-- name: concern_joined
-- People of Google Classroom who are somebody else of the SIS than before, or nobody.
INSERT INTO match_concern (integration_no, sourced_id)
SELECT person.integration_no, person.sourced_id
FROM rostered_person AS person
LEFT JOIN person_link AS link USING (integration_no, sourced_id)
WHERE person.organization_id = $1
  AND ((person.joined_integration_no, person.joined_sourced_id) IS DISTINCT FROM (link.sis_integration_no, link.sis_sourced_id)
       OR EXISTS (SELECT FROM match_concern AS concern
                  WHERE concern.integration_no = person.joined_integration_no AND concern.sourced_id = person.joined_sourced_id))
ON CONFLICT DO NOTHING;

-- name: concern_addresses
INSERT INTO match_address (address)
SELECT DISTINCT person.address
FROM match_concern AS concern JOIN rostered_person AS person USING (integration_no, sourced_id)
WHERE person.address IS NOT NULL
ON CONFLICT DO NOTHING;

-- name: concern_names
INSERT INTO match_name (sourced_id) SELECT DISTINCT sourced_id FROM match_concern ON CONFLICT DO NOTHING;

-- name: concern_accounts
-- Whatever these accounts may be matched by, and whom they belong to; to be called before they change, and after.
WITH changed AS MATERIALIZED (SELECT no, address, sourced_id FROM account WHERE no = ANY ($1::bigint[])),
addressed AS (
    INSERT INTO match_address (address) SELECT DISTINCT address FROM changed WHERE address IS NOT NULL ON CONFLICT DO NOTHING
),
named AS (
    INSERT INTO match_name (sourced_id) SELECT DISTINCT sourced_id FROM changed WHERE sourced_id IS NOT NULL ON CONFLICT DO NOTHING
)
INSERT INTO match_concern (integration_no, sourced_id)
SELECT link.integration_no, link.sourced_id FROM account_link AS link JOIN changed ON changed.no = link.account_no
UNION
SELECT bar.integration_no, bar.sourced_id FROM barred_link AS bar JOIN changed ON changed.no = bar.account_no
ON CONFLICT DO NOTHING;

-- name: refresh_people
-- The people of an organization as they are now: all, or those concerned.
WITH found AS MATERIALIZED (
    SELECT person.integration_no, person.sourced_id, person.roles, normal_address(person.email) AS address,
           sis.integration_no AS joined_integration_no, sis.sourced_id AS joined_sourced_id
    FROM integration
    JOIN users AS person ON person.integration_no = integration.no
    {of_concern}
    LEFT JOIN person_link AS link ON link.integration_no = person.integration_no AND link.sourced_id = person.sourced_id
    LEFT JOIN users AS sis ON sis.integration_no = link.sis_integration_no AND sis.sourced_id = link.sis_sourced_id AND sis.active
    WHERE integration.organization_id = $1 AND person.active
),
judged AS MATERIALIZED (SELECT found.*, find_address_fault(address) AS fault FROM found),
gone AS (
    DELETE FROM rostered_person AS held
    WHERE held.organization_id = $1 {if_concerned}
      AND NOT EXISTS (
          SELECT FROM found WHERE found.integration_no = held.integration_no AND found.sourced_id = held.sourced_id)
)
INSERT INTO rostered_person AS held (
    integration_no, sourced_id, organization_id, address, fault, student, teacher, staff, guardian,
    joined_integration_no, joined_sourced_id)
SELECT integration_no, sourced_id, $1, CASE WHEN fault IS NULL THEN digest_address(address) END, fault,
       roles @? '$[*] ? (@.role == "student")',
       roles @? '$[*] ? (@.role == "teacher")',
       roles @? '$[*] ? (@.role != "student" && @.role != "guardian" && @.role != "parent" && @.role != "relative")',
       roles @? '$[*] ? (@.role == "guardian" || @.role == "parent" || @.role == "relative")',
       joined_integration_no, joined_sourced_id
FROM judged
ON CONFLICT (integration_no, sourced_id) DO UPDATE
SET organization_id = excluded.organization_id, address = excluded.address, fault = excluded.fault,
    student = excluded.student, teacher = excluded.teacher, staff = excluded.staff, guardian = excluded.guardian,
    joined_integration_no = excluded.joined_integration_no, joined_sourced_id = excluded.joined_sourced_id
WHERE held IS DISTINCT FROM excluded;

-- name: of_concern
JOIN match_concern AS concern ON concern.integration_no = person.integration_no AND concern.sourced_id = person.sourced_id

-- name: if_concerned
AND EXISTS (
    SELECT FROM match_concern AS concern
    WHERE concern.integration_no = held.integration_no AND concern.sourced_id = held.sourced_id)

-- name: seen_person
-- Whether a product with this access may see a person: whom `roster_served.users` shows it.
('guardians' = ANY (access.grants) OR person.student OR person.staff)
AND (access.schools IS NULL OR EXISTS (
    SELECT FROM belonging AS part
    WHERE part.integration_no = person.integration_no AND part.collection = 'users'
      AND part.sourced_id = person.sourced_id AND part.schools && access.schools))
AND (NOT access.teacher_started OR person.staff OR EXISTS (
    SELECT FROM activation AS connected
    WHERE connected.product_id = access.product_id AND connected.integration_no = person.integration_no
      AND connected.collection = 'users' AND connected.sourced_id = person.sourced_id))

-- name: move_joined_links
-- Who turned out to be somebody of the SIS takes the account along; if the other has one already, that one stays.
WITH joined AS MATERIALIZED (
    SELECT link.account_no, link.integration_no, link.sourced_id, person.joined_integration_no, person.joined_sourced_id,
           row_number() OVER (PARTITION BY person.joined_integration_no, person.joined_sourced_id ORDER BY link.account_no) > 1
           OR EXISTS (
               SELECT FROM account_link AS own
               WHERE own.product_id = $1 AND own.integration_no = person.joined_integration_no AND own.sourced_id = person.joined_sourced_id
           ) AS ends
    FROM account_link AS link
    JOIN rostered_person AS person USING (integration_no, sourced_id)
    WHERE link.product_id = $1 AND person.organization_id = $2 AND person.joined_integration_no IS NOT NULL
),
moved AS (
    UPDATE account_link AS link SET integration_no = joined.joined_integration_no, sourced_id = joined.joined_sourced_id
    FROM joined WHERE link.account_no = joined.account_no AND NOT joined.ends
),
ended AS (DELETE FROM account_link AS link USING joined WHERE link.account_no = joined.account_no AND joined.ends)
INSERT INTO link_event (account_no, product_id, integration_no, sourced_id, event, how)
SELECT account_no, $1, integration_no, sourced_id, 'unlinked', 'joined' FROM joined
UNION ALL
SELECT account_no, $1, joined_integration_no, joined_sourced_id, 'linked', 'joined' FROM joined WHERE NOT ends;

-- name: widen_concern
-- Accounts that name somebody concerned are matched by nothing else: that concerns whoever has their address.
INSERT INTO match_address (address)
SELECT DISTINCT account.address
FROM match_name AS named JOIN account USING (sourced_id)
WHERE account.organization_id = $2 AND account.deleted_at IS NULL AND account.address IS NOT NULL
  AND account.product_id IS NOT DISTINCT FROM $1
ON CONFLICT DO NOTHING;

-- name: load_all_people
INSERT INTO match_person (integration_no, sourced_id, address, fault, student, staff, guardian, seen, judged)
SELECT person.integration_no, person.sourced_id, person.address, person.fault, person.student, person.staff, person.guardian,
       {seen_person}, true
FROM access JOIN rostered_person AS person USING (organization_id)
WHERE access.product_id = $1 AND access.organization_id = $2 AND person.joined_integration_no IS NULL;

-- name: load_concerned_people
INSERT INTO match_person (integration_no, sourced_id, address, fault, student, staff, guardian, seen, judged)
WITH found AS (
    SELECT person.integration_no, person.sourced_id, person.joined_integration_no, person.joined_sourced_id
    FROM match_concern AS concern JOIN rostered_person AS person USING (integration_no, sourced_id)
    WHERE person.organization_id = $2
    UNION ALL
    SELECT person.integration_no, person.sourced_id, person.joined_integration_no, person.joined_sourced_id
    FROM match_address AS concern
    JOIN rostered_person AS person ON person.organization_id = $2 AND person.address = concern.address
    UNION ALL
    SELECT person.integration_no, person.sourced_id, person.joined_integration_no, person.joined_sourced_id
    FROM match_name AS concern
    JOIN rostered_person AS person ON person.organization_id = $2 AND person.sourced_id = concern.sourced_id
),
represented AS MATERIALIZED (
    SELECT DISTINCT coalesce(joined_integration_no, integration_no) AS integration_no,
                    coalesce(joined_sourced_id, sourced_id) AS sourced_id
    FROM found
)
SELECT person.integration_no, person.sourced_id, person.address, person.fault, person.student, person.staff, person.guardian,
       {seen_person}, true
FROM represented
JOIN rostered_person AS person USING (integration_no, sourced_id)
JOIN access ON access.product_id = $1 AND access.organization_id = $2;

-- name: widen_addresses
INSERT INTO match_address (address)
SELECT DISTINCT address FROM match_person WHERE address IS NOT NULL ON CONFLICT DO NOTHING;

-- name: widen_names
INSERT INTO match_name (sourced_id)
SELECT sourced_id FROM match_person
UNION
SELECT alias.sourced_id
FROM match_person AS person
JOIN rostered_person AS alias
  ON alias.joined_integration_no = person.integration_no AND alias.joined_sourced_id = person.sourced_id
ON CONFLICT DO NOTHING;

-- name: load_accounts
INSERT INTO match_account (
    account_no, address, role, integration_no, sourced_id, state, linked_integration_no, linked_sourced_id)
SELECT account.no, account.address, account.role,
       CASE WHEN account.integration_id IS NOT NULL THEN coalesce(named.no, -1) END, account.sourced_id,
       CASE WHEN link.account_no IS NULL THEN 'free'
            WHEN link.how = 'created' AND account.external_id IS NULL THEN 'made'
            WHEN person.sourced_id IS NULL AND link.how <> 'manual' THEN 'loose'
            ELSE 'firm' END,
       link.integration_no, link.sourced_id
FROM account
LEFT JOIN integration AS named ON named.id = account.integration_id AND named.organization_id = account.organization_id
LEFT JOIN account_link AS link ON link.account_no = account.no
LEFT JOIN rostered_person AS person
       ON person.integration_no = link.integration_no AND person.sourced_id = link.sourced_id
{which};

-- name: all_accounts
WHERE account.product_id = $1 AND account.organization_id = $2 AND account.deleted_at IS NULL

-- name: candidate_accounts
JOIN match_candidate AS candidate ON candidate.account_no = account.no

-- name: load_candidates
-- Accounts that have an address or a sourcedId of somebody concerned, or are theirs. `IS NOT DISTINCT FROM` keeps
-- Postgres from going through all accounts of the product for each.
INSERT INTO match_candidate (account_no)
SELECT account.no
FROM match_address AS concern
JOIN account ON account.address = concern.address AND account.organization_id = $2 AND account.deleted_at IS NULL
WHERE account.product_id IS NOT DISTINCT FROM $1
UNION
SELECT account.no
FROM match_name AS concern
JOIN account ON account.organization_id = $2 AND account.sourced_id = concern.sourced_id AND account.deleted_at IS NULL
WHERE account.product_id IS NOT DISTINCT FROM $1
UNION
SELECT link.account_no
FROM match_person AS concern
JOIN account_link AS link
  ON link.product_id = $1 AND link.integration_no = concern.integration_no AND link.sourced_id = concern.sourced_id;

-- name: load_context
-- People who only count: who shares an address with somebody concerned, or is named by an account that may be theirs.
INSERT INTO match_person (integration_no, sourced_id, address, fault, student, staff, guardian, seen, judged)
WITH found AS (
    SELECT person.integration_no, person.sourced_id, person.joined_integration_no, person.joined_sourced_id
    FROM match_address AS concern
    JOIN rostered_person AS person ON person.organization_id = $2 AND person.address = concern.address
    UNION ALL
    SELECT person.integration_no, person.sourced_id, person.joined_integration_no, person.joined_sourced_id
    FROM match_account AS account
    JOIN rostered_person AS person ON person.organization_id = $2 AND person.sourced_id = account.sourced_id
),
represented AS MATERIALIZED (
    SELECT DISTINCT coalesce(joined_integration_no, integration_no) AS integration_no,
                    coalesce(joined_sourced_id, sourced_id) AS sourced_id
    FROM found
)
SELECT person.integration_no, person.sourced_id, person.address, person.fault, person.student, person.staff, person.guardian,
       {seen_person}, false
FROM represented
JOIN rostered_person AS person USING (integration_no, sourced_id)
JOIN access ON access.product_id = $1 AND access.organization_id = $2
ON CONFLICT DO NOTHING;

-- name: load_named
INSERT INTO match_named (account_no, integration_no, sourced_id)
SELECT DISTINCT account.account_no, person.integration_no, person.sourced_id
FROM match_account AS account
JOIN rostered_person AS alias ON alias.organization_id = $1 AND alias.sourced_id = account.sourced_id
JOIN match_person AS person
  ON person.integration_no = coalesce(alias.joined_integration_no, alias.integration_no)
 AND person.sourced_id = coalesce(alias.joined_sourced_id, alias.sourced_id)
WHERE person.seen AND (account.integration_no IS NULL OR account.integration_no = alias.integration_no);

-- name: judge_people
-- The rule of `roster_store.matching.rule`, for everybody at once.
INSERT INTO match_verdict (integration_no, sourced_id, account_no, how, reason, candidates, made)
WITH held AS MATERIALIZED (
    SELECT linked_integration_no AS integration_no, linked_sourced_id AS sourced_id, state
    FROM match_account WHERE linked_sourced_id IS NOT NULL
),
barred AS MATERIALIZED (
    SELECT bar.account_no, bar.integration_no, bar.sourced_id
    FROM barred_link AS bar JOIN match_person AS person USING (integration_no, sourced_id)
    WHERE bar.product_id = $1
),
claim AS (
    SELECT named.account_no, named.integration_no, named.sourced_id, account.role,
           count(*) OVER (PARTITION BY named.account_no) AS people
    FROM match_named AS named
    JOIN match_account AS account USING (account_no)
    LEFT JOIN barred
           ON barred.account_no = named.account_no AND barred.integration_no = named.integration_no AND barred.sourced_id = named.sourced_id
    WHERE account.state IN ('free', 'loose') AND barred.account_no IS NULL
),
claimed AS (
    SELECT integration_no, sourced_id, count(*) AS accounts, max(people) AS people, min(account_no) AS account_no,
           min(role) AS role, (array_agg(account_no ORDER BY account_no))[1:10] AS candidates
    FROM claim GROUP BY integration_no, sourced_id
),
-- who else has an address: people, and accounts
sharing AS (
    SELECT address, count(*) AS people FROM match_person WHERE address IS NOT NULL GROUP BY address
),
spoken AS MATERIALIZED (SELECT DISTINCT account_no FROM match_named),
addressed AS (
    SELECT account.address, count(*) AS accounts, min(account.account_no) AS account_no,
           (array_agg(account.account_no ORDER BY account.account_no)
               FILTER (WHERE account.state = 'free' AND spoken.account_no IS NULL))[1:10] AS candidates
    FROM match_account AS account LEFT JOIN spoken USING (account_no)
    WHERE account.address IS NOT NULL
    GROUP BY account.address
),
weighed AS (
    SELECT person.*, coalesce(held.state = 'made', false) AS made,
           claimed.accounts AS claims, claimed.people AS claim_people, claimed.account_no AS claim_no,
           claimed.candidates AS claim_candidates,
           claimed.role IS NULL OR CASE claimed.role
               WHEN 'student' THEN person.student WHEN 'guardian' THEN person.guardian ELSE person.staff END AS claim_fits,
           sharing.people AS sharers, addressed.accounts, addressed.candidates, sole.account_no AS sole_no,
           sole.role IS NULL OR CASE sole.role
               WHEN 'student' THEN person.student WHEN 'guardian' THEN person.guardian ELSE person.staff END AS fits,
           bar.account_no IS NOT NULL AS is_barred,
           spoken.account_no IS NULL AND CASE sole.state WHEN 'free' THEN true WHEN 'loose' THEN coalesce((
               SELECT lower(btrim(gone.given_name)) = lower(btrim(here.given_name))
                  AND lower(btrim(gone.family_name)) = lower(btrim(here.family_name))
                  AND btrim(gone.given_name) <> '' AND btrim(gone.family_name) <> ''
                  AND digest_address(normal_address(gone.email)) = person.address
               FROM users AS gone, users AS here
               WHERE gone.integration_no = sole.linked_integration_no AND gone.sourced_id = sole.linked_sourced_id
                 AND here.integration_no = person.integration_no AND here.sourced_id = person.sourced_id), false)
               ELSE false END AS is_open
    FROM match_person AS person
    LEFT JOIN held USING (integration_no, sourced_id)
    LEFT JOIN claimed USING (integration_no, sourced_id)
    LEFT JOIN sharing ON sharing.address = person.address
    LEFT JOIN addressed ON addressed.address = person.address
    LEFT JOIN match_account AS sole ON addressed.accounts = 1 AND sole.account_no = addressed.account_no
    LEFT JOIN spoken ON spoken.account_no = sole.account_no
    LEFT JOIN barred AS bar
           ON bar.account_no = sole.account_no AND bar.integration_no = person.integration_no AND bar.sourced_id = person.sourced_id
    WHERE person.judged AND person.seen AND coalesce(held.state, 'made') = 'made'
),
decided AS (
    SELECT weighed.*,
           CASE WHEN claims IS NOT NULL THEN
                    CASE WHEN claims > 1 OR claim_people > 1 THEN 'ambiguous' WHEN NOT claim_fits THEN 'role_conflict' END
                WHEN fault IS NOT NULL THEN fault
                WHEN sharers > 1 THEN CASE WHEN candidates IS NULL THEN 'shared_email' ELSE 'ambiguous' END
                WHEN accounts IS NULL THEN 'unknown'
                WHEN accounts > 1 THEN CASE WHEN candidates IS NULL THEN 'account_taken' ELSE 'ambiguous' END
                WHEN is_barred THEN 'unlinked'
                WHEN NOT is_open THEN 'account_taken'
                WHEN NOT fits THEN 'role_conflict'
           END AS why
    FROM weighed
)
SELECT integration_no, sourced_id,
       CASE WHEN why IS NULL THEN coalesce(claim_no, sole_no) END,
       CASE WHEN why IS NULL THEN CASE WHEN claim_no IS NULL THEN 'email' ELSE 'sourced_id' END END,
       CASE WHEN why IN ('no_email', 'placeholder_email', 'shared_email', 'unknown')
                 AND EXISTS (SELECT FROM barred
                             WHERE barred.integration_no = decided.integration_no AND barred.sourced_id = decided.sourced_id)
            THEN 'unlinked' ELSE why END,
       CASE WHEN why IS NULL THEN '{}'::bigint[]
            WHEN claims IS NOT NULL THEN claim_candidates
            WHEN why = 'ambiguous' THEN candidates
            WHEN why IN ('unlinked', 'account_taken', 'role_conflict') AND sole_no IS NOT NULL THEN ARRAY[sole_no]
            ELSE '{}'::bigint[] END,
       made
FROM decided;

-- name: end_moved_links
-- Accounts whose person is gone, and who belong to somebody else now.
WITH moved AS (
    DELETE FROM account_link AS link USING match_verdict AS verdict
    WHERE link.account_no = verdict.account_no
    RETURNING link.account_no, link.integration_no, link.sourced_id
)
INSERT INTO link_event (account_no, product_id, integration_no, sourced_id, event, how)
SELECT account_no, $1, integration_no, sourced_id, 'unlinked', 'moved' FROM moved;

-- name: replace_made_accounts
-- Where the product's own account was found, the one that was made and never taken up goes.
WITH replaced AS (
    DELETE FROM account_link AS link USING match_verdict AS verdict
    WHERE verdict.account_no IS NOT NULL AND verdict.made
      AND link.product_id = $1 AND link.integration_no = verdict.integration_no AND link.sourced_id = verdict.sourced_id
    RETURNING link.account_no, link.integration_no, link.sourced_id
),
ended AS (UPDATE account SET deleted_at = now(), updated_at = now() FROM replaced WHERE account.no = replaced.account_no)
INSERT INTO link_event (account_no, product_id, integration_no, sourced_id, event, how)
SELECT account_no, $1, integration_no, sourced_id, 'unlinked', 'replaced' FROM replaced;

-- name: write_links
WITH linked AS (
    INSERT INTO account_link (account_no, product_id, integration_no, sourced_id, how)
    SELECT account_no, $1, integration_no, sourced_id, how FROM match_verdict WHERE account_no IS NOT NULL
    RETURNING account_no, integration_no, sourced_id, how
)
INSERT INTO link_event (account_no, product_id, integration_no, sourced_id, event, how)
SELECT account_no, $1, integration_no, sourced_id, 'linked', how FROM linked;

-- name: make_accounts
-- For people nobody's account may be: the product wants one for each.
WITH wanted AS MATERIALIZED (
    SELECT gen_random_uuid() AS id, verdict.integration_no, verdict.sourced_id,
           CASE WHEN person.student THEN 'student' WHEN person.staff THEN 'staff' ELSE 'guardian' END AS role
    FROM match_verdict AS verdict JOIN match_person AS person USING (integration_no, sourced_id)
    WHERE NOT verdict.made AND verdict.reason IN ('no_email', 'placeholder_email', 'shared_email', 'unknown')
),
made AS (
    INSERT INTO account (id, product_id, organization_id, role, origin)
    SELECT id, $1, $2, role, 'roster' FROM wanted
    RETURNING no, id
),
linked AS (
    INSERT INTO account_link (account_no, product_id, integration_no, sourced_id, how)
    SELECT made.no, $1, wanted.integration_no, wanted.sourced_id, 'created' FROM made JOIN wanted USING (id)
    RETURNING account_no, integration_no, sourced_id
),
told AS (
    INSERT INTO link_event (account_no, product_id, integration_no, sourced_id, event, how)
    SELECT account_no, $1, integration_no, sourced_id, 'linked', 'created' FROM linked
)
UPDATE match_verdict AS verdict SET made = true
FROM wanted WHERE verdict.integration_no = wanted.integration_no AND verdict.sourced_id = wanted.sourced_id;

-- name: forget_unmatched
-- Those who are matched, gone or not seen any more.
DELETE FROM unmatched_person AS held
WHERE held.product_id = $1 {scope}
  AND NOT EXISTS (
      SELECT FROM match_verdict AS verdict
      WHERE verdict.integration_no = held.integration_no AND verdict.sourced_id = held.sourced_id
        AND verdict.reason IS NOT NULL AND NOT verdict.made);

-- name: all_unmatched
AND held.integration_no IN (SELECT no FROM integration WHERE organization_id = $2)

-- name: concerned_unmatched
AND $2::uuid IS NOT NULL
AND (held.integration_no, held.sourced_id) IN (
    SELECT integration_no, sourced_id FROM match_concern
    UNION ALL
    SELECT integration_no, sourced_id FROM match_person WHERE judged)

-- name: write_unmatched
INSERT INTO unmatched_person AS held (product_id, integration_no, sourced_id, reason, candidates)
SELECT $1, integration_no, sourced_id, reason, candidates FROM match_verdict WHERE reason IS NOT NULL AND NOT made
ON CONFLICT (product_id, integration_no, sourced_id) DO UPDATE
SET reason = excluded.reason, candidates = excluded.candidates,
    since = CASE WHEN held.reason = excluded.reason THEN held.since ELSE excluded.since END
WHERE (held.reason, held.candidates) IS DISTINCT FROM (excluded.reason, excluded.candidates);

-- name: forget_all_unmatched
DELETE FROM unmatched_person AS held
USING integration
WHERE held.product_id = $1 AND integration.no = held.integration_no AND integration.organization_id = $2;

-- name: take_links_over
-- People who changed hands keep their accounts, and what was taken apart stays so.
WITH links AS (
    UPDATE account_link AS held SET integration_no = $1
    FROM {taken} AS taken
    WHERE taken.collection = 'users' AND held.integration_no = taken.integration_no AND held.sourced_id = taken.sourced_id
      AND NOT EXISTS (
          SELECT FROM account_link AS own
          WHERE own.product_id = held.product_id AND own.integration_no = $1 AND own.sourced_id = held.sourced_id)
)
UPDATE barred_link AS held SET integration_no = $1
FROM {taken} AS taken
WHERE taken.collection = 'users' AND held.integration_no = taken.integration_no AND held.sourced_id = taken.sourced_id
  AND NOT EXISTS (
      SELECT FROM barred_link AS own
      WHERE own.account_no = held.account_no AND own.integration_no = $1 AND own.sourced_id = held.sourced_id);

-- name: count_matching
-- How the people of one integration stand with the accounts of a product; joined people stand as who they are.
SELECT count(*) FILTER (WHERE link.account_no IS NOT NULL AND person.student) AS matched_students,
       count(*) FILTER (WHERE link.account_no IS NOT NULL AND person.teacher) AS matched_teachers,
       count(*) FILTER (WHERE link.how = 'created' AND (person.student OR person.teacher)) AS created,
       count(*) FILTER (WHERE link.account_no IS NULL AND (person.student OR person.teacher)) AS unmatched,
       count(*) FILTER (WHERE link.account_no IS NULL AND (person.student OR person.teacher)
                          AND alone.reason IN ('ambiguous', 'shared_email')) AS ambiguous
FROM access
JOIN rostered_person AS person ON person.organization_id = access.organization_id AND person.integration_no = $3
LEFT JOIN account_link AS link
       ON link.product_id = $1
      AND link.integration_no = coalesce(person.joined_integration_no, person.integration_no)
      AND link.sourced_id = coalesce(person.joined_sourced_id, person.sourced_id)
LEFT JOIN unmatched_person AS alone
       ON alone.product_id = $1
      AND alone.integration_no = coalesce(person.joined_integration_no, person.integration_no)
      AND alone.sourced_id = coalesce(person.joined_sourced_id, person.sourced_id)
WHERE access.product_id = $1 AND access.organization_id = $2 AND {seen_person};

-- name: read_joins
SELECT current_setting('enable_nestloop');

-- name: write_joins
SELECT set_config('enable_nestloop', $1, true);
