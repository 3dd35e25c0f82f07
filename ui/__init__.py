"""The tab: form, pages, plots (Gradio). Knows run folders and callables, never the trainer."""
