"""What the benchmark of the engine needs: its server, and the clients that it measures beside one another."""
