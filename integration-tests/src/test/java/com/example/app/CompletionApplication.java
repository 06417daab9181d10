package com.example.app;

import com.github.tjake.jlama.cli.commands.CompleteCommand;
import picocli.CommandLine;

/** Jlama's own command line, the part of it that works without the libraries that were never published. */
public final class CompletionApplication {
    private CompletionApplication() {}

    public static void main(String[] args) {
        System.exit(new CommandLine(new CompleteCommand()).execute(args));
    }
}
