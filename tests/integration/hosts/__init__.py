"""Tests on machines with sshd and systemd of their own."""
