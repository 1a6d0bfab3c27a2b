"""What people look at: contact sheets, reports, dataset cards, tables."""
