"""The task manager: owns every task, its events and its dispatch."""
