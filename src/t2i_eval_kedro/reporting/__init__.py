"""Figures, tables and the self-contained HTML report; it draws what others measured and knows no judge."""
