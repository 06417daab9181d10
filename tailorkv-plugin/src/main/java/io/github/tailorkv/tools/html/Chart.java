package io.github.tailorkv.tools.html;

/** A picture. */
public interface Chart {

    /** Its shapes. */
    Drawing drawing();
}
