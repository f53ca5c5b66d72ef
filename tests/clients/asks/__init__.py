"""What each client of Ironic asks of it, and relies on."""
