"""What is known of chests and of the words about them: anatomy, regions, findings, label maps."""
