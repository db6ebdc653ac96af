"""What each sender puts into a request and how it proves to be the sender (atlassian/API.md §7). Pure functions."""
