/** Somebody else's agent. */
package com.example.agent;
