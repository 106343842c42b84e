"""The annotation page: a Flask app served by waitress, its own HTML, CSS and JavaScript, nothing from elsewhere."""
