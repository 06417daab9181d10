/** Somebody else's cache, written against the SPI alone. */
package com.example.provider;
