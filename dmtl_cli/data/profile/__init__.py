"""What is known of users and items when a day ends: its update, storage, and values of features. Imports config, runs
and data.log."""
