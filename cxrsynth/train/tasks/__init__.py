"""What can be trained, one folder or file each: configuration, loss, result. The loop is beside them."""
