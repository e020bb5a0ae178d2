"""The inbox: where districts drop their files, over SFTP or by hand, and where workers read them (A2, A6)."""
