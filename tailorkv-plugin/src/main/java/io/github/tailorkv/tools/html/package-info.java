/** Reports in HTML: one file each, charts as SVG in it, nothing loaded from anywhere. */
@NullMarked
package io.github.tailorkv.tools.html;

import org.jspecify.annotations.NullMarked;
