DROP TABLE usage_samples;
