"""Employees sign in with Microsoft Entra ID."""
