"""What the demo tells, shows and proves. Uses nothing of the package but what users have."""
