// Envd
