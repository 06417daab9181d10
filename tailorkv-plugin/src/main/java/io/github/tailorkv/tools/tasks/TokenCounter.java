package io.github.tailorkv.tools.tasks;

/** How long a text is for a model. */
@FunctionalInterface
public interface TokenCounter {

    /** Tokens of a text, without any that mark its beginning or end. */
    int count(String text);
}
