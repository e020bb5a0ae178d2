"""Contract suites and fixtures: a real Postgres, a real Apache Kafka, a clock that moves when told."""
