"""Checkpoints as their authors published them: other tensor names, other configurations, some of them pickles."""
