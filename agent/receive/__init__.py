"""The listener: associations are admitted, instances become durable and recorded, then answered with Success."""
