// @ts-check
/** Swagger UI, which is a script of its own and leaves one name, shows what the API says of itself. */
const { SwaggerUIBundle } = /** @type {any} */ (globalThis);
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger", deepLinking: true, validatorUrl: null });
