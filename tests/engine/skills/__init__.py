"""The demo's real base and skills, served by vLLM: answers, and the console over them."""
