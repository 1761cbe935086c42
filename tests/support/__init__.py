"""Parts that tests share: a Bedrock endpoint on this machine, and models behind it."""
