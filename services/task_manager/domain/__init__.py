"""What a task is and may do: values and rules without Postgres, gRPC or generated stubs."""
