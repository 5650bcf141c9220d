"""What is known of a scene, a map or a model, without computing anything big."""
