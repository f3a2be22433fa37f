"""What only training the demo model needs: its parts, the reasoning it learns from, batches of it, the stages."""
