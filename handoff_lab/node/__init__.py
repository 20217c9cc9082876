"""What runs inside a node: its agent, its slots, its kernel."""
