"""The tool gateway: an MCP server in front of the instance's MCP servers, which lets through what a release's pins allow."""
