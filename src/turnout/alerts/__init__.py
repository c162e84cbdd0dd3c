"""Tells the outside what happened: signed webhooks, notifications, traces; and the page that explains a deployment."""
