package io.github.tailorkv.tools.html;

/** A picture. */
public interface Chart {

    /** An SVG element with everything in it. */
    String svg();
}
