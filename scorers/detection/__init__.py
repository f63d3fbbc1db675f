"""Object detection: COCO's mean average precision, from boxes to a Result."""
