"""Pages of Email Notifications, of mail settings and alert channels, and the public page behind keep links."""
