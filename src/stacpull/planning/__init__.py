"""Planning: which assets an item brings, where each goes, and under which safe name. Pure."""
