FROM --os=x a
