"""The HTTP face: OpenAI's API for files, fine-tuning jobs, models and chat over the services; keeps no state."""
