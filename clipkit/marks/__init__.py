"""What a made picture says of itself: written by clipkit, read back from files of any maker."""
