/* Starts the API reference; session requests carry the CSRF token of the page. */
"use strict";
(() => {
  const place = document.getElementById("api-docs");
  window.SwaggerUIBundle({
    url: place.dataset.schema,
    domNode: place,
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    validatorUrl: null,
    requestInterceptor(request) {
      request.headers["X-CSRFToken"] = place.dataset.csrf;
      return request;
    },
  });
})();
