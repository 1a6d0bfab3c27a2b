"""Networks applied to images of any origin: label maps by attention, masks, findings."""
