"""The drawing calls in plain NumPy and scikit-image, as exported programs use them."""

import skimage.draw


def draw_line(img, point1, point2, color):
    """Bresenham line, end points inclusive."""
    img[skimage.draw.line(*point1, *point2)] = color


def draw_rectangle(img, point1, point2, color):
    """Filled rectangle between two opposite corners, inclusive."""
    img[skimage.draw.rectangle(point1, end=point2)] = color


def draw_horizontal_line(img, y, color):
    """A whole row."""
    img[y, :] = color


def draw_vertical_line(img, x, color):
    """A whole column."""
    img[:, x] = color


def draw_pixel(img, point, color):
    """One cell."""
    img[point] = color


def draw_rectangle_outline(img, point1, point2, color):
    """The outermost cells of a rectangle between two opposite corners."""
    (top, bottom), (left, right) = (sorted(pair) for pair in zip(point1, point2))
    img[[top, bottom], left : right + 1] = color
    img[top : bottom + 1, [left, right]] = color
