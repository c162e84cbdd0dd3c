"""The protocols of models: what a call may take, what an answer says, how errors are told."""
