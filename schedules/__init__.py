"""What the table in custom_scheduler.py is made of: progress and its clocks, and the schedules that are known elsewhere too."""
