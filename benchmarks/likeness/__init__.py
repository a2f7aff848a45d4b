"""Does medssl notice scans that look unlike those an encoder was trained on?"""
