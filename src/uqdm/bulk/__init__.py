"""Many pictures: processes of one machine, and clusters."""
