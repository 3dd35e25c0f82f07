"""The run itself: Trainer, callbacks, job."""
