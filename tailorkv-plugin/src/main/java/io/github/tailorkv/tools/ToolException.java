package io.github.tailorkv.tools;

/** Something that the user can mend. The message is one line and says how. */
final class ToolException extends Exception {

    private static final long serialVersionUID = 1L;

    ToolException(String message) {
        super(message);
    }
}
