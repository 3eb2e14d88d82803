"""What people look at: colours, and templates of reports and pages."""
