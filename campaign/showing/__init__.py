"""What people see on a terminal, in cron's mail and in pipes; each part is imported by its own name."""
