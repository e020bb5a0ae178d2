"""Who is told of changes: webhooks and topics of products and organizations, and their delivery (F2)."""
