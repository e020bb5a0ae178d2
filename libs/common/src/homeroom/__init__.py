"""What Homeroom's services share: messages, canonical records, the bus, the database, the service frame."""
