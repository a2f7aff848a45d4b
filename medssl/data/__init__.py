"""From a manifest to volumes: reading, checking, preprocessing, caching and serving scans."""
