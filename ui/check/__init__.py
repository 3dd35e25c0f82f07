"""What Check and Preview show."""
